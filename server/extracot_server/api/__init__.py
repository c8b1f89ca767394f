"""HTTP: bodies, replies, routes, server-sent events, errors. FastAPI lives here."""
