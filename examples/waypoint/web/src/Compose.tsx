import { useMutation } from "convex/react";
import { type FormEvent, useState } from "react";
import { api } from "./generated/api";
import type { Id } from "./generated/dataModel";
import { explain } from "./problem";

export function Compose({ userId }: { userId: Id<"users"> }) {
  const createPost = useMutation(api.posts.create_post);
  const [place, setPlace] = useState("");
  const [text, setText] = useState("");
  const [problem, setProblem] = useState("");

  async function submit(event: FormEvent) {
    event.preventDefault();
    try {
      await createPost({ author: userId, place, text });
      setPlace("");
      setText("");
      setProblem("");
    } catch (error) {
      setProblem(explain(error));
    }
  }

  return (
    <form className="card" onSubmit={submit}>
      <h2>Where have you been?</h2>
      <label>
        Place
        <input name="place" value={place} onChange={(event) => setPlace(event.target.value)} />
      </label>
      <label>
        What should others know?
        <textarea name="text" rows={4} value={text} onChange={(event) => setText(event.target.value)} />
      </label>
      <button type="submit">Post</button>
      <p role="alert">{problem}</p>
    </form>
  );
}
