// A server for one client, played by the test: it reads what the client sends, message by
// message, and answers what the test says. It knows the arithmetic of versions, so that a
// test which breaks the protocol does so on purpose.

import { once } from "node:events";
import { WebSocketServer } from "ws";

export function timestamp(number) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(number));
  return bytes.toString("base64");
}

export function updated(queryId, value, { journal = null, logLines = [] } = {}) {
  return { type: "QueryUpdated", queryId, value, journal, logLines };
}

export function failed(queryId, errorMessage, rest = {}) {
  return { type: "QueryFailed", queryId, errorMessage, journal: null, logLines: [], ...rest };
}

class Connection {
  #socket;
  #arrived = [];
  #waiting = [];
  #version = { querySet: 0, identity: 0, ts: timestamp(0) };

  constructor(socket) {
    this.#socket = socket;
    this.closed = once(socket, "close");
    socket.on("message", (data) => {
      const message = JSON.parse(data);
      const reader = this.#waiting.shift();
      if (reader === undefined) this.#arrived.push(message);
      else reader(message);
    });
  }

  /** The next message of the client, which must be of this type. */
  async read(type) {
    const message = this.#arrived.shift() ?? (await new Promise((resolve) => this.#waiting.push(resolve)));
    if (message.type !== type) throw new Error(`expected ${type}, got ${JSON.stringify(message)}`);
    return message;
  }

  /** Messages that came and were not read; a round trip has made sure that they are all here. */
  async unread() {
    const answered = once(this.#socket, "pong");
    this.#socket.ping();
    await answered;
    return this.#arrived.splice(0);
  }

  send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  transition(ts, modifications = [], querySet = this.#version.querySet, identity = this.#version.identity) {
    const endVersion = { querySet, identity, ts: timestamp(ts) };
    this.send({ type: "Transition", startVersion: this.#version, endVersion, modifications });
    this.#version = endVersion;
  }

  committed(requestId, ts, result = null) {
    this.send({ type: "MutationResponse", requestId, success: true, result, ts: timestamp(ts), logLines: [] });
  }

  refused(type, requestId, result, rest = {}) {
    this.send({ type, requestId, success: false, result, ts: null, logLines: [], ...rest });
  }

  /** Refuse the token of an `Authenticate`, or say that it has expired, and close as the protocol asks. */
  async refuseToken(baseVersion, authUpdateAttempted) {
    this.send({ type: "AuthError", error: "the token is no good", baseVersion, authUpdateAttempted });
    await this.close();
  }

  async close(code, reason) {
    this.#socket.close(code, reason);
    await this.closed;
  }
}

export class ScriptedServer {
  static async start() {
    const server = new ScriptedServer();
    server.sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await once(server.sockets, "listening");
    return server;
  }

  get address() {
    return `http://127.0.0.1:${this.sockets.address().port}`;
  }

  /** The next connection. Ask before the client connects. */
  async accept() {
    const [socket, request] = await once(this.sockets, "connection");
    const connection = new Connection(socket);
    connection.path = request.url;
    return connection;
  }

  /** The next connection, its `Connect` and its first `ModifyQuerySet`. */
  async greet() {
    const connection = await this.accept();
    const hello = await connection.read("Connect");
    const { modifications } = await connection.read("ModifyQuerySet");
    return { connection, hello, modifications };
  }

  stop() {
    for (const socket of this.sockets.clients) socket.terminate();
    this.sockets.close();
  }
}
