"""kopf's handlers and the loops behind them: observe, decide, apply."""
