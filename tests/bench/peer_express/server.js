// The usual stack for Meta's webhooks: Express, pg, BullMQ on Redis. Every webhook is verified, stored, enqueued and
// only then acknowledged, as ours is. Settings come from the environment: PORT, APP_SECRET, REDIS_SOCKET, PG* (see pg).
"use strict";

const { createHmac, timingSafeEqual } = require("node:crypto");
const express = require("express");
const { Pool } = require("pg");
const { Queue } = require("bullmq");
const Redis = require("ioredis");

const { PORT, APP_SECRET, REDIS_SOCKET } = process.env;
const pool = new Pool({ max: 20 });
const queue = new Queue("webhook", { connection: new Redis({ path: REDIS_SOCKET, maxRetriesPerRequest: null }) });
const app = express();
app.disable("x-powered-by");

function signed(body, header) {
  const expected = Buffer.from(`sha256=${createHmac("sha256", APP_SECRET).update(body).digest("hex")}`);
  const received = Buffer.from(header || "");
  return expected.length === received.length && timingSafeEqual(expected, received);
}

app.post("/webhooks/meta", express.raw({ type: () => true, limit: "4mb" }), async (request, response) => {
  if (!signed(request.body, request.get("X-Hub-Signature-256"))) return response.sendStatus(401);
  JSON.parse(request.body);
  const stored = await pool.query({
    name: "store",
    text: "INSERT INTO peer_webhook (body) VALUES ($1) RETURNING id",
    values: [request.body],
  });
  await queue.add("process", { id: stored.rows[0].id }, { removeOnComplete: true });
  response.sendStatus(200);
});

async function main() {
  await pool.query(
    "CREATE TABLE IF NOT EXISTS peer_webhook (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY," +
      " received_at timestamptz NOT NULL DEFAULT now(), body bytea NOT NULL)",
  );
  const server = app.listen(Number(PORT), "127.0.0.1", () => console.log("ready"));
  process.on("SIGTERM", () => server.close(() => process.exit(0)));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
