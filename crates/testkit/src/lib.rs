//! For tests: goldens, fault injection, process control, recorded answers.
