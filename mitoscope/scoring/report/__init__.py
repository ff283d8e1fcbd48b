"""One HTML file with figures above and every crop below."""
