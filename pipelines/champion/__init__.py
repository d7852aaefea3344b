"""What decides which model is put into operation, and what describes it. Pure."""
