//! `latency.hlog`: histograms per second and series, in the interval log format of HdrHistogram, so that existing plotters open it.
