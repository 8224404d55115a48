//! Disk to Packet and back: pcap and pcapng, compressed or not, from files and pipes.
