-- wrk's report as one line that benches/wrk.py reads.
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("report %d %d %d %d %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, summary.bytes,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status,
    latency:percentile(50), latency:percentile(99), latency.max))
end
