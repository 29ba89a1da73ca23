"""The Mobility agent: what runs on a protected server."""
