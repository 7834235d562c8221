import { useConvexConnectionState, useQuery } from "convex/react";
import { useState } from "react";
import { api } from "./generated/api";
import type { Id } from "./generated/dataModel";
import { Compose } from "./Compose";
import { Join } from "./Join";
import { PostCard } from "./PostCard";
import { Problem } from "./problem";

const REMEMBERED = "waypoint-user";

export function App() {
  const [userId, setUserId] = useState(() => localStorage.getItem(REMEMBERED) as Id<"users"> | null);

  function remember(id: Id<"users"> | null) {
    if (id === null) localStorage.removeItem(REMEMBERED);
    else localStorage.setItem(REMEMBERED, id);
    setUserId(id);
  }

  return (
    <>
      <header>
        <strong className="brand">Waypoint</strong>
        <Connection />
        {userId !== null && <button onClick={() => remember(null)}>Not you?</button>}
      </header>
      <main>
        <aside>
          {userId === null ? <Join onJoin={remember} /> : <Letter userId={userId} />}
          {userId !== null && <Compose userId={userId} />}
        </aside>
        <Problem>
          <Feed viewer={userId ?? undefined} />
        </Problem>
      </main>
    </>
  );
}

function Connection() {
  const { isWebSocketConnected } = useConvexConnectionState();
  return <span role="status">{isWebSocketConnected ? "Live" : "Connecting…"}</span>;
}

/** The welcome letter comes by subscription: an action writes it, nobody has to fetch it. */
function Letter({ userId }: { userId: Id<"users"> }) {
  const letters = useQuery(api.welcome.inbox, { user_id: userId });
  const newest = letters?.[0];
  return newest ? <section className="card letter">{newest.text}</section> : null;
}

function Feed({ viewer }: { viewer: Id<"users"> | undefined }) {
  const posts = useQuery(api.posts.list_posts, { viewer });
  if (posts === undefined) return <p className="soft">Loading…</p>;
  if (posts.length === 0) return <p className="soft">No posts yet. Yours could be the first.</p>;
  return (
    <ol className="posts">
      {posts.map((post) => (
        <PostCard key={post._id} post={post} viewer={viewer} />
      ))}
    </ol>
  );
}
