"""The process around the app: HTTP server, connections, workers, probe, mounted pages."""
