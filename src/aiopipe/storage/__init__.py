"""Files: finding them, reading them in big blocks, making outputs visible all at once."""
