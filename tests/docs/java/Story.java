import io.socket.client.Socket;
import org.json.JSONObject;

/** A phone that joins, receives, loses its connection and comes back. */
public class Story {
    static void check(Object found, Object wanted) {
        if (!wanted.equals(found)) throw new AssertionError(found + " instead of " + wanted);
    }

    static JSONObject ack(long offset, String epoch) throws Exception {
        return new JSONObject().put("success", true).put("offset", offset).put("epoch", epoch);
    }

    public static void main(String[] arguments) throws Exception {
        Socket socket = new Socket();
        Rooms rooms = new Rooms(socket);
        rooms.join("lobby");
        check(socket.emitted.size(), 0);

        socket.isConnected = true;
        socket.arrive(Socket.EVENT_CONNECT);
        Socket.Emitted join = socket.emitted.remove();
        check(join.event() + " " + join.argument(), "join-room {roomName=lobby}");
        join.ack().call(ack(3, "aa"));
        socket.arrive("message-reply", new JSONObject().put("roomName", "lobby").put("offset", 4));
        socket.arrive("newMessage", new JSONObject().put("roomId", "another").put("offset", 9));

        socket.arrive(Socket.EVENT_CONNECT);
        join = socket.emitted.remove();
        check(join.argument().toString(), "{roomName=lobby, offset=4, epoch=aa}");
        // A new history: what came since the join counts in it, what came before does not.
        socket.arrive("message-reply", new JSONObject().put("roomName", "lobby").put("offset", 2));
        join.ack().call(ack(1, "bb"));
        socket.arrive(Socket.EVENT_CONNECT);
        check(socket.emitted.remove().argument().toString(), "{roomName=lobby, offset=2, epoch=bb}");

        rooms.join("resource:7");
        socket.emitted.remove().ack().call(ack(0, "cc"));
        socket.arrive("resource-update", new JSONObject().put("resourceId", 7).put("offset", 1));
        rooms.join("resource:7");
        check(socket.emitted.remove().argument().toString(), "{roomName=resource:7, offset=1, epoch=cc}");

        // Without history there is nothing to recover from.
        rooms.join("plain");
        socket.emitted.remove().ack().call(new JSONObject().put("success", true));
        rooms.join("plain");
        check(socket.emitted.remove().argument().toString(), "{roomName=plain}");
        System.out.println("all is well");
    }
}
