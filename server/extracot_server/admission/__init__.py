"""Who may use the server, who runs now, who waits and who is refused."""
