"""Probes: crops are embedded once by a frozen network, and small classifiers are fitted to the embeddings."""
