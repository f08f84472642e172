// A token server for docker-registry (distribution's token specification): RS256 tokens with the
// certificate in their header, by password or by refresh token.

import { createSign, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { type LoopbackServer, listenOnLoopback } from "./loopback-server.ts";
import type { ServerCertificate } from "./registry-certificates.ts";

export interface TokenServerOptions {
  readonly signer: ServerCertificate;
  readonly issuer: string;
  readonly tls?: ServerCertificate;
  readonly username: string;
  readonly password: string;
  readonly identityToken: string;
  /** Without credentials everybody may pull. */
  readonly isOpen?: boolean;
  readonly lifeSeconds?: number;
}

export interface TokenServer extends LoopbackServer {
  readonly realm: string;
  /** Of every question so far: method, parameters, Authorization. */
  readonly questions: readonly TokenQuestion[];
  /** What is given out from now on lives this long. */
  setLife(seconds: number): void;
}

interface TokenQuestion {
  readonly method: string;
  readonly parameters: URLSearchParams;
  readonly authorization: string | undefined;
}

export async function startTokenServer(options: TokenServerOptions): Promise<TokenServer> {
  const questions: TokenQuestion[] = [];
  let lifeSeconds = options.lifeSeconds ?? 300;
  const server = await listenOnLoopback(async (request, response) => {
    const question = await readQuestion(request);
    questions.push(question);
    if (!isAllowed(question, options)) {
      response.writeHead(401, { "content-type": "application/json" });
      response.end('{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}');
      return;
    }
    const token = makeToken(question.parameters, options, lifeSeconds);
    const key = question.method === "POST" ? "access_token" : "token";
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ [key]: token, expires_in: lifeSeconds }));
  }, options.tls);
  const setLife = (seconds: number) => {
    lifeSeconds = seconds;
  };
  return { ...server, realm: `${server.origin}/token`, questions, setLife };
}

async function readQuestion(request: IncomingMessage): Promise<TokenQuestion> {
  const { method = "", headers } = request;
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const query = request.url!.slice(request.url!.indexOf("?") + 1 || request.url!.length);
  const parameters = new URLSearchParams(
    method === "POST" ? Buffer.concat(parts).toString() : query,
  );
  return { method, parameters, authorization: headers.authorization };
}

function isAllowed({ parameters, authorization }: TokenQuestion, options: TokenServerOptions) {
  const { username, password, identityToken } = options;
  const basic = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  if (parameters.get("grant_type") === "refresh_token") {
    return parameters.get("refresh_token") === identityToken;
  }
  return authorization === undefined ? options.isOpen === true : authorization === basic;
}

function makeToken(
  parameters: URLSearchParams,
  { signer, issuer }: TokenServerOptions,
  lifeSeconds: number,
): string {
  const now = Math.floor(Date.now() / 1000);
  const certificate = new X509Certificate(readFileSync(signer.certificatePath));
  const header = { typ: "JWT", alg: "RS256", x5c: [certificate.raw.toString("base64")] };
  const scopes = parameters.getAll("scope").flatMap((text) => text.split(" "));
  const access = scopes.filter(Boolean).map((scope) => {
    const [type, name, actions = ""] = scope.split(":");
    return { type, name, actions: actions.split(",") };
  });
  const claims = {
    ...{ iss: issuer, sub: "", aud: parameters.get("service"), access },
    ...{ iat: now, nbf: now - 10, exp: now + lifeSeconds, jti: `${now}-${Math.random()}` },
  };
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode(header)}.${encode(claims)}`;
  const signature = createSign("RSA-SHA256").update(signed).sign(readFileSync(signer.keyPath));
  return `${signed}.${signature.toString("base64url")}`;
}
