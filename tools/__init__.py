"""What the project needs beside the product: speed and supply chain. Not installed."""
