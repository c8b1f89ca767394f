"""What a run would take before anything is spent: rows, tokens, memory and hours of each stage.

Reads configurations and what lies in their folders; starts nothing and loads no model.
"""
