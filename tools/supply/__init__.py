"""What the image is made of, for those who must answer for it: its SBOM, licences and known vulnerabilities."""
