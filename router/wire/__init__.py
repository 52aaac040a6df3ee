"""The bytes: the server side protocol, the upstream connections and their framing."""
