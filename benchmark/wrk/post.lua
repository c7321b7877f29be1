-- POSTs the content of a file, for wrk: wrk -t1 -c16 -d10 -s benchmark/wrk/post.lua URL -- FILE [HEADER VALUE]…
--
-- Prints one line of JSON at the end, times in milliseconds.

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  file:close()
  for place = 2, #arguments, 2 do
    wrk.headers[arguments[place]] = arguments[place + 1]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "non_2xx": %d, "socket_errors": %d, "p50": %.3f, "p99": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
