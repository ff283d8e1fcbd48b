"""The networks that training starts from or keeps frozen: their weights, and what is trained of them."""
