package io.socket.emitter;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** As in socket.io-client-java 2, as far as the example needs it. */
public class Emitter {
    public interface Listener {
        void call(Object... arguments);
    }

    private final Map<String, List<Listener>> listeners = new HashMap<>();

    public Emitter on(String event, Listener listener) {
        listeners.computeIfAbsent(event, key -> new ArrayList<>()).add(listener);
        return this;
    }

    /** Plays the server: the event arrives. */
    public void arrive(String event, Object... arguments) {
        listeners.getOrDefault(event, List.of()).forEach(listener -> listener.call(arguments));
    }
}
