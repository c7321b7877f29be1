-- A multipart upload of one file, for wrk:
--
--   wrk -t2 -c64 -d10 -s benchmark/wrk/upload.lua http://127.0.0.1:8088/classify -- image images/cat.jpg
--
-- The arguments are the form's field and the file. The part has no Content-Type and no line break follows the
-- last boundary: a server has to take that too. Prints one line of JSON at the end, times in milliseconds.

local boundary = "----SnapServeBoundary"

function init(arguments)
  local field, path = arguments[1], arguments[2]
  local file = assert(io.open(path, "rb"))
  local picture = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
  wrk.body = "--" .. boundary .. "\r\n"
    .. 'Content-Disposition: form-data; name="' .. field .. '"; filename="picture"\r\n\r\n'
    .. picture .. "\r\n--" .. boundary .. "--"
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "non_2xx": %d, "socket_errors": %d, "p50": %.3f, "p90": %.3f, "p99": %.3f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
