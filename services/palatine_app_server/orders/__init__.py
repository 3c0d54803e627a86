"""How an instance is told what to do, and who may: signals, the bus, the FIFO, touched files, an Emperor."""
