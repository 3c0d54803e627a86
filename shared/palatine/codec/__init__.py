"""Sans-io codecs: bytes or text in, values out. Nothing here may touch a socket, clock, os, trio or zmq."""
