"""HTTP: request and reply shapes, routes, server-sent events, errors. FastAPI lives here."""
