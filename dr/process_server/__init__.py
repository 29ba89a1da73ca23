"""Process server, HTTPS 9443: receives segments, spools them encrypted, writes them into the replicas in order.

`spool` keeps files, `stream` the durable memory of one server's stream, `admission` checks a segment before it is
acknowledged, `writer` brings spooled segments into the replica, `api` speaks HTTP, `serve` is the process.
"""
