"""Foundation models: embeddings by them, probes, and studies of many runs."""
