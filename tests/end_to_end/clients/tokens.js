// Tokens of a provider whose key the tests made: `SIGNING_KEY` of `ISSUER`.

import { createPrivateKey, sign } from "node:crypto";

const key = createPrivateKey(process.env.SIGNING_KEY);

function part(value) {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

/** A token that is valid for `seconds` from now on; a claim of undefined is left out. */
export function token(subject, seconds, claims = {}) {
  const now = Math.floor(Date.now() / 1000);
  const signed = [
    part({ alg: "ES256", kid: "test", typ: "JWT" }),
    part({
      iss: process.env.ISSUER,
      aud: "the-app",
      sub: subject,
      iat: now,
      exp: now + seconds,
      jti: Math.random().toString(),
      ...claims,
    }),
  ].join(".");
  const signature = sign("sha256", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}
