"""Load over real sockets: the same workloads as in the simulation, against any OpenAI endpoint."""
