"""Configuration server, HTTPS 443: heartbeats, health of every server, requested recovery points.

`heartbeats` remembers what agents said, `cuts` the requests for recovery points, `health` judges (pure), `api` speaks
HTTP, `client` asks; `settings` reads `site/config.json`, `site` runs both servers of a site (`dr serve`).
"""
