-- Asks for safe-conducts as fast as wrk can, and checks that each answer is one. For wrk:
--
--   wrk -t2 -c64 -d10s -s scripts/wrk/safe_conduct.lua http://127.0.0.1:8080/
--
-- Every answer takes a session slot for as long as session_lifetime. A relay in its default configuration soon answers
-- 503, and rightly so; scripts/wrk/run starts one with short lifetimes and many slots.

wrk.method = "POST"
wrk.path = "/"
wrk.body = ""
wrk.headers["Content-Length"] = "0"

-- One per thread, read by done().
issued, unexpected = 0, ""

local threads = {}

function setup(thread)
   threads[#threads + 1] = thread
end

function response(status, headers, body)
   local url = headers["Location"]
   if status == 201 and url and body == url .. "\n" and headers["Set-Cookie"] and headers["X-Session-Expires"] then
      issued = issued + 1
   else
      unexpected = status .. " " .. body:gsub("%s+$", "")
   end
end

function done(summary, latency)
   local total, errors = 0, summary.errors
   for _, thread in ipairs(threads) do
      total = total + thread:get("issued")
      if thread:get("unexpected") ~= "" then
         print("FAILED: an answer that is no safe-conduct: " .. thread:get("unexpected"))
         os.exit(1)
      end
   end
   if total == 0 or errors.connect + errors.read + errors.write + errors.timeout > 0 then
      print("FAILED: connections broke, or nothing was issued")
      os.exit(1)
   end
   print(string.format("%.0f safe-conducts a second, p50 %.0f us, p99 %.0f us",
      total / summary.duration * 1e6, latency:percentile(50), latency:percentile(99)))
end
