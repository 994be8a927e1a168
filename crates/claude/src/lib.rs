//! Claude Code on a local model: its profile, its environment, what has to be there before it starts, and the terminal
//! that it opens in.
