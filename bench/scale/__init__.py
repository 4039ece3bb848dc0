"""How the operator scales: 10, 100 and 1,000 pools of 20 workers on nodes that do not exist (kwok)."""
