"""What only this book needs: its tables of evidence, the studies that make them, and findings shown again."""
