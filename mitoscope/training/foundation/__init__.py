"""Foundation models: their weights, and embeddings by them."""
