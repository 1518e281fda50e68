"""Where chunks are computed: in this process, in a process per GPU, on a Ray cluster."""
