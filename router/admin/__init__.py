"""Administration of a running router: what may be changed, how it is kept, what goes on."""
