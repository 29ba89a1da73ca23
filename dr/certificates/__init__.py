"""The site's private certificate authority, TLS settings, and secrets sealed under the break-glass passphrase."""
