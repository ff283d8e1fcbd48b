"""One HTML file with metrics above and every crop below."""
