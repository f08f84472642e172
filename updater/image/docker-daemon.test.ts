import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UnsupportedError, UsageError } from "../../shared/error.ts";
import { openDockerDaemon } from "./docker-daemon.ts";

const ID = `sha256:${"0123456789abcdef".repeat(4)}`;
let directory: string;
let server: Server;
let asked: string[];
let answer: (response: ServerResponse) => void;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "docker-"));
  asked = [];
  server = createServer((request, response) => {
    asked.push(request.url ?? "");
    answer(response);
  });
  await new Promise<void>((resolve) => server.listen(join(directory, "sock"), resolve));
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

const open = (image: string) =>
  openDockerDaemon(image, "amd64", `unix://${join(directory, "sock")}`);

describe("what is asked for", () => {
  test.each([
    ["os:v1", "/images/docker.io/library/os:v1/get"],
    ["example.com:5000/a/os:v1", "/images/example.com:5000/a/os:v1/get"],
    [`example.com/os@${ID}`, `/images/example.com/os@${ID}/get`],
    [ID, `/images/${ID}/get`],
  ])("%s", async (image, path) => {
    answer = (response) => response.writeHead(404).end('{"message":"No such image: \\"x\\""}');
    await expect(open(image).resolve()).rejects.toThrow(/Docker has no image .*No such image/);
    expect(asked).toEqual([path]);
  });

  test.each([
    ["os", /neither a tag nor a digest; write e\.g\. "docker-daemon:os:latest"/],
    ["localhost:5000/os", /neither a tag nor a digest/],
    [`os:v1@${ID}`, /a tag and a digest/],
    ["os:v1/../../containers", /is not a/],
    [ID.slice(7), /image ID/],
  ])("%s is refused", (image, message) => {
    expect(() => open(image)).toThrow(message);
    expect(() => open(image)).toThrow(UsageError);
  });
});

describe("where it is asked", () => {
  test.each(["tcp://localhost:2375", "ssh://host", "unix://relative"])(
    "not at %s",
    async (host) => {
      const resolving = openDockerDaemon("os:v1", "amd64", host).resolve();
      await expect(resolving).rejects.toThrow(/only "unix:\/\/\/path" is supported.*docker save/);
      await expect(resolving).rejects.toThrow(UnsupportedError);
    },
  );

  test("nobody answers", async () => {
    const host = `unix://${directory}/nothing`;
    await expect(openDockerDaemon("os:v1", "amd64", host).resolve()).rejects.toThrow(
      /Docker does not answer on ".*\/nothing"; is it running\?/,
    );
  });
});

describe("what comes", () => {
  test("another status", async () => {
    answer = (response) => response.writeHead(500).end("x".repeat(10_000_000));
    await expect(open("os:v1").resolve()).rejects.toThrow(/\(status 500\): x{1000}$/);
  });

  test("no archive", async () => {
    answer = (response) => response.writeHead(200).end(Buffer.alloc(2000, "x"));
    await expect(open("os:v1").resolve()).rejects.toThrow(
      /"docker-daemon:os:v1" is not a whole tar/,
    );
  });

  test("it breaks off", async () => {
    answer = (response) => {
      response.writeHead(200, { "content-length": 100_000 });
      response.write(Buffer.alloc(5000), () => response.destroy());
    };
    await expect(open("os:v1").resolve()).rejects.toThrow(/broke off|not a whole tar/);
  });

  test("no end: closing does not wait for it", async () => {
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    answer = (response) => {
      response.writeHead(200);
      response.write(Buffer.alloc(5000), () => resolve());
    };
    const source = open("os:v1");
    const resolving = source.resolve();
    resolving.catch(() => {});
    await sent;
    await source[Symbol.asyncDispose]!();
    await expect(resolving).rejects.toThrow(/was closed/);
  });
});
