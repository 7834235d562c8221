import { useAction, useMutation } from "convex/react";
import { type FormEvent, useState } from "react";
import { api } from "./generated/api";
import type { Id } from "./generated/dataModel";
import { explain } from "./problem";

export function Join({ onJoin }: { onJoin: (id: Id<"users">) => void }) {
  const signIn = useMutation(api.users.sign_in);
  const sendWelcome = useAction(api.welcome.send_welcome);
  const [name, setName] = useState("");
  const [problem, setProblem] = useState("");

  async function submit(event: FormEvent) {
    event.preventDefault();
    try {
      const id = await signIn({ name });
      onJoin(id);
      await sendWelcome({ user_id: id });
    } catch (error) {
      setProblem(explain(error));
    }
  }

  return (
    <form className="card" onSubmit={submit}>
      <h2>Who is travelling?</h2>
      <label>
        Your name
        <input name="name" value={name} onChange={(event) => setName(event.target.value)} />
      </label>
      <button type="submit">Come along</button>
      <p role="alert">{problem}</p>
    </form>
  );
}
