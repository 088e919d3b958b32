-- Whole exchanges of a small payload: ask, receive, send. For wrk, with at least two connections a thread:
--
--   wrk -t2 -c64 -d10s -s scripts/wrk/small_exchange.lua http://127.0.0.1:8080/ [-- BYTES [acked|sent]]
--
-- wrk knows single requests only, and an exchange is three on two connections. What makes it possible: all connections
-- of a wrk thread share one Lua state. A safe-conduct's key puts two tasks into a queue, its GET and its PUT, and
-- whichever connection is free takes the next task, or asks for a new key if there is none. As tasks leave in order, no
-- more than one GET is ever under way whose PUT is not, so that two connections are enough for it never to come to a
-- standstill. Who waits for whom, and on which workers the two land, is left to chance, as in life.
--
-- wrk's figures count requests; an exchange is three of them.

-- One per thread, read by done().
issued, received, sent, unexpected = 0, 0, 0, ""

local payload, ask, get_tail, put_tail, tasks, head, tail

local threads = {}

function setup(thread)
   threads[#threads + 1] = thread
end

function init(args)
   local bytes, receipt = tonumber(args[1] or 1024), args[2]
   payload = string.rep("x", bytes)
   local host = "Host: " .. wrk.headers["Host"] .. "\r\n"
   ask = "POST / HTTP/1.1\r\n" .. host .. "Content-Length: 0\r\n\r\n"
   get_tail = " HTTP/1.1\r\n" .. host .. "\r\n"
   put_tail = " HTTP/1.1\r\n" .. host .. "Content-Length: " .. bytes .. "\r\n"
      .. (receipt and "X-Receipt: " .. receipt .. "\r\n" or "") .. "\r\n" .. payload
   tasks, head, tail = {}, 1, 0
end

function request()
   if head > tail then
      return ask
   end
   local task = tasks[head]
   tasks[head] = nil
   head = head + 1
   return task
end

-- wrk does not say which request an answer belongs to, but no two of the three look alike.
function response(status, headers, body)
   local path = (headers["Location"] or ""):match("/[%w_-]+$")
   if status == 201 and path then
      issued = issued + 1
      tasks[tail + 1] = "GET " .. path .. get_tail
      tasks[tail + 2] = "PUT " .. path .. put_tail
      tail = tail + 2
   elseif status == 200 and tonumber(headers["X-Bytes-Delivered"]) == #payload then
      sent = sent + 1
   elseif status == 200 and body == payload then
      received = received + 1
   else
      unexpected = status .. " " .. body:sub(1, 200):gsub("%s+$", "")
   end
end

function done(summary, latency)
   local errors = summary.errors
   local all = { issued = 0, received = 0, sent = 0 }
   for _, thread in ipairs(threads) do
      for name in pairs(all) do
         all[name] = all[name] + thread:get(name)
      end
      if thread:get("unexpected") ~= "" then
         print("FAILED: an answer that no exchange has: " .. thread:get("unexpected"))
         os.exit(1)
      end
   end
   if all.sent == 0 or errors.connect + errors.read + errors.write + errors.timeout > 0 then
      print("FAILED: connections broke, or no exchange was completed")
      os.exit(1)
   end
   print(string.format("%d issued, %d received, %d sent: %.0f exchanges a second",
      all.issued, all.received, all.sent, all.sent / summary.duration * 1e6))
end
