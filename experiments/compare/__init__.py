"""Arms side by side: trained, meta-tested, exported and counted alike, and one report of them all."""
