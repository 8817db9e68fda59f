"""Built-in executors: where and by how many processes the cells of a plan are computed."""
