//! Files that survive a crash: the segmented log with group commit, atomic files. The only code that writes files.
