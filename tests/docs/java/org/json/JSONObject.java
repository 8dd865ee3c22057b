package org.json;

import java.util.LinkedHashMap;
import java.util.Map;

/** As in org.json on Android, as far as the example needs it. */
public class JSONObject {
    private final Map<String, Object> fields = new LinkedHashMap<>();

    public JSONObject put(String name, Object value) throws JSONException {
        fields.put(name, value);
        return this;
    }

    public boolean has(String name) {
        return fields.containsKey(name);
    }

    public String optString(String name) {
        return optString(name, "");
    }

    public String optString(String name, String otherwise) {
        return has(name) ? String.valueOf(fields.get(name)) : otherwise;
    }

    public long optLong(String name) {
        return optLong(name, 0);
    }

    public long optLong(String name, long otherwise) {
        return fields.get(name) instanceof Number number ? number.longValue() : otherwise;
    }

    public boolean optBoolean(String name) {
        return optBoolean(name, false);
    }

    public boolean optBoolean(String name, boolean otherwise) {
        return fields.get(name) instanceof Boolean flag ? flag : otherwise;
    }

    @Override
    public String toString() {
        return fields.toString();
    }
}
