"""What is known of a family of reasoning models: chosen, checked, and shown."""
