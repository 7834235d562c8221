// Front ends as the public quick starts write them, on one page. What each renders is recorded in
// `window.rendered`, for the tests; `window.tokenFor(name)` is the provider that signs people in.

import { Authenticated, ConvexProviderWithAuth, ConvexReactClient, Unauthenticated } from "convex/react";
import { useConvexAuth, useMutation, usePaginatedQuery, useQuery } from "convex/react";
import { anyApi } from "convex/server";
import React, { createContext, useCallback, useContext, useMemo, useState } from "react";
import { createRoot } from "react-dom/client";

const api = anyApi.shapes;
window.rendered = { counts: [], rows: [], tens: [], auth: [], secrets: [] };

function Chat() {
  const messages = useQuery(api.list_messages);
  const send = useMutation(api.send_message);
  const [body, setBody] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    setBody("");
    await send({ author: location.hash.slice(1), body });
  };
  return (
    <section id="chat">
      <ol>
        {messages?.map((message) => (
          <li key={message._id}>
            {message.author}: {message.body}
          </li>
        ))}
      </ol>
      <form onSubmit={submit}>
        <input value={body} onChange={(event) => setBody(event.target.value)} />
      </form>
    </section>
  );
}

function Scroll({ name, list }) {
  const { results, status, loadMore } = usePaginatedQuery(list, {}, { initialNumItems: 4 });
  const numbers = results.map((row) => row.number);
  window.rendered[name].push({ status, numbers });
  return (
    <section id={name}>
      <output>{numbers.join(" ")}</output>
      <button disabled={status !== "CanLoadMore"} onClick={() => loadMore(4)}>
        {status}
      </button>
    </section>
  );
}

function Counter() {
  const count = useQuery(api.count);
  const [refusal, setRefusal] = useState("");
  const increment = useMutation(api.increment).withOptimisticUpdate((store, { by }) => {
    const shown = store.getQuery(api.count, {});
    if (shown !== undefined) store.setQuery(api.count, {}, shown + by);
  });
  window.rendered.counts.push(count);
  const add = (by) => increment({ by }).catch((error) => setRefusal(error.data.code));
  return (
    <section id="counter">
      <output>{count}</output>
      <button onClick={() => add(1)}>one more</button>
      <button onClick={() => add(100)}>too much</button>
      <p role="alert">{refusal}</p>
    </section>
  );
}

const Person = createContext();

function useAuthOfPerson() {
  const { name } = useContext(Person);
  const fetchAccessToken = useCallback(() => (name ? window.tokenFor(name) : null), [name]);
  return useMemo(
    () => ({ isLoading: false, isAuthenticated: name !== null, fetchAccessToken }),
    [name, fetchAccessToken],
  );
}

function Secrets() {
  const mine = useQuery(api.my_secrets);
  const keep = useMutation(api.keep_secret);
  if (mine !== undefined) window.rendered.secrets.push(mine.owner);
  return (
    <div>
      <output>{mine && `${mine.owner}: ${mine.texts.join(", ")}`}</output>
      <button onClick={() => keep({ text: `of ${mine.owner}` })}>keep</button>
    </div>
  );
}

function Door() {
  const { signIn, signOut } = useContext(Person);
  const { isLoading, isAuthenticated } = useConvexAuth();
  window.rendered.auth.push(isLoading ? "loading" : isAuthenticated ? "in" : "out");
  return (
    <section id="door">
      <Authenticated>
        <Secrets />
        <button onClick={signOut}>Sign out</button>
      </Authenticated>
      <Unauthenticated>
        <button onClick={() => signIn(location.hash.slice(1))}>Sign in</button>
      </Unauthenticated>
    </section>
  );
}

function App() {
  const [name, setName] = useState(null);
  const person = useMemo(() => ({ name, signIn: setName, signOut: () => setName(null) }), [name]);
  return (
    <Person.Provider value={person}>
      <ConvexProviderWithAuth client={client} useAuth={useAuthOfPerson}>
        <Chat />
        <Scroll name="rows" list={api.list_rows} />
        <Scroll name="tens" list={api.list_tens} />
        <Counter />
        <Door />
      </ConvexProviderWithAuth>
    </Person.Provider>
  );
}

const client = new ConvexReactClient(location.origin);
window.mutation = (name, args) => client.mutation(api[name], args);
createRoot(document.getElementById("root")).render(<App />);
