"""What the product costs, measured beside something that everybody knows."""
