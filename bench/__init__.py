"""What Millpond is measured by. Run as `python -m bench.<name>`; it measures and prints, and is part of no release."""
