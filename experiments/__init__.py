"""What a person runs: the command line, the pipeline, configurations, reports."""
